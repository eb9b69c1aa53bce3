package wire

import (
	"errors"
	"strconv"
)

// The types of this file are parameters. Their Bind is called with what was sent
// (runtime.Binder of oapi-codegen); its error says what was expected, and becomes
// the detail of a problem. The zero value, and nothing sent, is "absent".

// maxLimit is what a larger limit is clamped to.
const maxLimit = 5000

// Limit is how many records a page has at most.
type Limit int

// Bind reads a limit, clamped to 5000.
func (l *Limit) Bind(text string) error {
	if text == "" {
		return nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		return errors.New("a number from 1 is expected; above 5000 counts as 5000")
	}
	*l = Limit(min(n, maxLimit))
	return nil
}

// Switch is on or off.
type Switch bool

// Bind reads a switch; its bare name means true.
func (s *Switch) Bind(text string) error {
	if text == "" {
		*s = true
		return nil
	}
	on, err := strconv.ParseBool(text)
	if err != nil {
		return errors.New("true or false is expected")
	}
	*s = Switch(on)
	return nil
}

// Seq is the number of an event.
type Seq uint64

// Bind reads the number of an event.
func (s *Seq) Bind(text string) error {
	if text == "" {
		return nil
	}
	seq, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return errors.New("the number of an event is expected")
	}
	*s = Seq(seq)
	return nil
}

// Port is a TCP port.
type Port uint16

// Bind reads a port.
func (p *Port) Bind(text string) error {
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil || port == 0 {
		return errors.New("a port from 1 to 65535 is expected")
	}
	*p = Port(port)
	return nil
}

// Tail is how many of the last lines of a log are wanted; negative: all.
type Tail int

// Bind reads a number of lines.
func (t *Tail) Bind(text string) error {
	if text == "" {
		*t = -1
		return nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		return errors.New("a number of lines from 0 is expected")
	}
	*t = Tail(n)
	return nil
}
