// Package doctor examines a hive and the machine it runs on, and says for each check
// what was found, what it means and what to do.
//
// # Model
//
// There are facts and there are checks. Facts are gathered first: those of the machine
// by ReadHost and FindBackups, those of hive's own tables by package hive, which passes
// them in as plain data. Check then evaluates every check, and each check is a function
// of Facts alone: a test needs no hive, no machine and no clock to see any outcome of it.
//
// A fact has three values: what was read, that it is not so, and why it could not be
// read (Fact). A check whose facts could not be read is Unknown; it never says that
// something is well, or wrong, that nobody has seen. A fact that only adds to a text, as
// the holder of a quarantined port does, may be missing.
//
// # Guarantees
//
//   - Nothing is changed or repaired: files and sysctls are read, systemctl is asked,
//     and that is all.
//   - Check returns the same checks in the same order each time, and does no I/O.
//   - What is not OK says what it means and what to do. Each text is one line of plain
//     text (package store/plain), whatever names processes have given themselves.
//   - ReadHost blocks for 2 s at most: see there.
//
// # What it may touch
//
// It may use proc, alloc and store. It does not know package hive: no lock of hive's
// is held here, and no method of hive's is called.
//
// # Caveats
//
//   - Facts are read one after the other while the machine goes on. A port that was
//     taken in between can be free in one check and held in another.
//   - The names of the checks and the statuses are part of the API: scripts compare them.
//   - A text may name what somebody else chose: a program, a user, a reason.
package doctor
