// Package harness is what the test programs have in common: they run the real hive
// binary in a directory of its own, end it in the middle of its work, start it again,
// and compare what it says with the processes that there are.
//
// A program is a main that defines its flags and calls Main. An Instance is a hive
// over several starts and ends: it is asked through its API (Call, Do, Events), and
// its workers' processes are found in /proc, without asking hive (Members, IsWorker).
// A Tally counts what has happened and collects broken promises. Waits are bounded by
// a condition and a timeout (Eventually), and at the end nothing may be left
// (StopAll, FinalChecks).
//
// Caveats: Linux only, as far as processes are asked for. Processes that drop their
// environment are not found by Members, and so neither by Close.
package harness
