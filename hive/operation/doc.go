// Package operation declares the operations of the job API: what each is called, which
// fields it takes, how it is read, what its result looks like, and how the rest of hive
// treats it. All that is in one table (table.go): who adds an operation adds a row, a type
// and a method of Executor, and the compiler and the test of the table say what is missing.
//
// It has no effects and no state, and is safe for concurrent use. It may import what
// shapes and checks values (catalog, models, input); never what carries operations out.
package operation
