// Package kv is the layer of package store between bbolt and the typed records: the names
// of the buckets, the forms of their keys, the envelope of every value, and a transaction
// whose writes can be undone without those of others in the same bbolt transaction.
//
// It knows where a record is and whether it is whole, and nothing of what is in it: what
// belongs together is the typed records' business. It may touch bbolt's transactions, and
// neither opens nor closes a file.
//
// # Guarantees
//
//   - A value whose format, checksum, bucket or key is not the one it was written with is a
//     *CorruptError, never a record.
//   - Undo restores every key and sequence that the transaction has written, and nothing
//     else.
//   - Scan tolerates writes by the body of its loop.
package kv
