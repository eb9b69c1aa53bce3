// Package inspect has the commands about the hive as a whole: status, doctor, audit and
// ports. They exit with 1 if something is wrong, and say what to do about each issue. What
// two of them find status lists once. Only audit --repair changes anything.
//
// It may use the hive through App.Hive, and nothing else of the machine.
package inspect
