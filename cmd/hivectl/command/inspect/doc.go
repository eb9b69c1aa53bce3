// Package inspect has the commands that say how the hive as a whole is: status, doctor, audit
// and ports.
//
// They exit with 1 if something is wrong, and say what to do about each thing. What two of
// them find status lists once. Nothing is changed, but by audit --repair.
//
// It may use the hive through App.Hive, and nothing else of the machine.
package inspect
