//go:build !linux

package sockets

import (
	"context"
	"net"
)

func (t *Table) read(context.Context, uint16, uint32) (*Snapshot, error) { return nil, ErrUnsupported }

func listsBound() bool { return false }

// Holders returns ErrUnsupported.
func Holders(context.Context, []Socket) ([]Holder, error) { return nil, ErrUnsupported }

// AbstractHolder returns ErrUnsupported.
func AbstractHolder(context.Context, string) (Holder, error) { return Holder{}, ErrUnsupported }

// OwnedBy returns ErrUnsupported.
func OwnedBy(int, map[uint64]bool) (bool, error) { return false, ErrUnsupported }

// PeerOf returns ErrNoPeer.
func PeerOf(context.Context, *net.TCPConn) (Socket, error) { return Socket{}, ErrNoPeer }

// Open needs Linux.
func Open(*net.TCPConn) bool { return false }

// ServerOf needs Linux.
func ServerOf(context.Context, *net.TCPConn) (Socket, error) { return Socket{}, ErrNoPeer }

// Holders returns ErrUnsupported.
func (m *Memory) Holders(context.Context, []Socket) ([]Holder, error) { return nil, ErrUnsupported }
