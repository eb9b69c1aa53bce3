package doctor

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"rbeehive/store/plain"
)

// Status is what a check has come to.
type Status string

// The statuses.
const (
	OK      Status = "ok"
	Warning Status = "warning" // somebody should do something
	Unknown Status = "unknown" // it cannot be seen from here
)

// Checkup is the outcome of one check.
type Checkup struct {
	Name   string // one word, always the same
	Status Status
	Found  string // what is the case, in one line
	Means  string // what follows from it; empty if Status is OK
	Do     string // what to do about it; empty if Status is OK
}

// checks are all of them, in the order in which a person reads them: what hive works
// with, what it keeps, and what it stands on.
var checks = []func(*Facts) Checkup{
	checkRange, checkPorts, checkForbidden, checkSquatters, checkUnleased, checkDraining,
	checkConfiguration, checkWanted, checkQuarantined, checkUnverified, checkMembers,
	checkFile, checkDisk, checkOrigin, checkClock,
	checkKernel, checkCgroup, checkPtrace, checkHidepid, checkSystemd, checkInit, checkDescriptors, checkTasks,
}

// Check evaluates every check. It only reads the facts, and does not block.
func Check(f *Facts) []Checkup {
	all := make([]Checkup, 0, len(checks))
	for _, check := range checks {
		c := check(f)
		// Anybody can give a process a name that breaks a line or drives a terminal.
		c.Found, c.Means, c.Do = plain.Text(c.Found), plain.Text(c.Means), plain.Text(c.Do)
		all = append(all, c)
	}
	return all
}

func ok(name, format string, args ...any) Checkup {
	return Checkup{Name: name, Status: OK, Found: fmt.Sprintf(format, args...)}
}

func warning(name, found, means, do string) Checkup {
	return Checkup{Name: name, Status: Warning, Found: found, Means: means, Do: do}
}

func unknown(name, found, means, do string) Checkup {
	return Checkup{Name: name, Status: Unknown, Found: found, Means: means, Do: do}
}

// unreadable is a check whose facts could not be read.
func unreadable(name string, err error) Checkup {
	return unknown(name, firstLine(err), "the check could not be made, so nothing is known about it", tryAgain)
}

// tryAgain is what to do about an error that a text has named.
const tryAgain = "fix the cause of the error and run `hivectl doctor` again"

// firstLine is as much of an error as fits a line: joined ones have a line each.
func firstLine(err error) string {
	first, _, _ := strings.Cut(err.Error(), "\n")
	return first
}

// listedAtMost bounds a list in a line for a person.
const listedAtMost = 8

// listed joins the items of a line. "1 more" would be as long as the item itself.
func listed(items []string) string {
	more := len(items) - listedAtMost
	if more > 1 {
		// A copy: the facts are the caller's.
		items = append(slices.Clone(items[:listedAtMost]), fmt.Sprintf("%d more", more))
	}
	return strings.Join(items, "; ")
}

// counted is a number of things: "1 port waits", "3 ports wait".
func counted(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.Itoa(n) + " " + many
}
