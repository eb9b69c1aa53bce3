package migrations

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"

	"go.etcd.io/bbolt"
)

// Where the schema number is, and what its envelope looks like. Frozen for
// every schema to come: an old build must be able to read a newer file's number.
const (
	metaBucket     = "meta"
	schemaKey      = "schema"
	envelopeFormat = 1
	envelopeHeader = 5 // format byte, CRC-32C big-endian
)

// Version returns the schema of the file that tx reads: 0 for an empty file.
// It does not block and does not write. Errors: ErrForeign, ErrDamaged.
func Version(tx *bbolt.Tx) (int, error) {
	meta := tx.Bucket([]byte(metaBucket))
	// No buckets: a new file. Others, but not meta: somebody else's database.
	if meta == nil {
		if first, _ := tx.Cursor().First(); first != nil {
			return 0, fmt.Errorf("bucket %q without %q: %w", first, metaBucket, ErrForeign)
		}
		return 0, nil
	}
	value := meta.Get([]byte(schemaKey))
	if value == nil {
		return 0, fmt.Errorf("no schema number: %w", ErrForeign)
	}
	return decodeVersion(value)
}

func decodeVersion(value []byte) (int, error) {
	if len(value) < envelopeHeader || value[0] != envelopeFormat {
		return 0, fmt.Errorf("unknown record format: %w", ErrDamaged)
	}
	payload := value[envelopeHeader:]
	if binary.BigEndian.Uint32(value[1:]) != checksum(payload) {
		return 0, fmt.Errorf("checksum differs: %w", ErrDamaged)
	}
	var version int
	// 0 is never written: it stands for an empty file.
	if err := json.Unmarshal(payload, &version); err != nil || version < 1 {
		return 0, fmt.Errorf("%q is no schema number: %w", payload, ErrDamaged)
	}
	return version, nil
}

func putVersion(tx *bbolt.Tx, version int) error {
	payload, err := json.Marshal(version)
	if err != nil {
		return err
	}
	value := append([]byte{envelopeFormat, 0, 0, 0, 0}, payload...)
	binary.BigEndian.PutUint32(value[1:], checksum(payload))
	meta := tx.Bucket([]byte(metaBucket))
	if meta == nil {
		return fmt.Errorf("bucket %q: %w", metaBucket, ErrForeign)
	}
	return meta.Put([]byte(schemaKey), value)
}

// checksum is the CRC-32C of bucket, key and payload, so that a value under
// the wrong key is found as well as a changed one.
func checksum(payload []byte) uint32 {
	table := crc32.MakeTable(crc32.Castagnoli)
	crc := crc32.Update(0, table, []byte(metaBucket+"\x00"+schemaKey+"\x00"))
	return crc32.Update(crc, table, payload)
}
