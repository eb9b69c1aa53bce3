package kv

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strconv"
	"time"
	"unicode"
	"unicode/utf8"
)

// BE16 is the key of a port: big-endian, so that keys sort as numbers do.
func BE16(n uint16) []byte { return binary.BigEndian.AppendUint16(nil, n) }

// BE64 is the key of an event's number.
func BE64(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

// PIDKey is the key of a process on a port: without the last two bytes it is the prefix of
// all ports of the process.
func PIDKey(pid int, port uint16) []byte {
	key := binary.BigEndian.AppendUint32(nil, uint32(pid))
	return binary.BigEndian.AppendUint16(key, port)
}

// SplitPIDKey is the reverse of PIDKey; false for what is not 6 bytes long.
func SplitPIDKey(key []byte) (pid int, port uint16, ok bool) {
	if len(key) != 6 {
		return 0, 0, false
	}
	return int(binary.BigEndian.Uint32(key)), binary.BigEndian.Uint16(key[4:]), true
}

// EndedKey is time, lease id, port. The port is there because the ports of one
// lease end in one transaction.
func EndedKey(at time.Time, leaseID string, port uint16) []byte {
	key := append(TimeKey(at), leaseID...)
	return binary.BigEndian.AppendUint16(key, port)
}

// EndedLeaseID is the lease id in an EndedKey; empty for what is too short for one.
func EndedLeaseID(key []byte) string {
	if len(key) < 10 {
		return ""
	}
	return string(key[8 : len(key)-2])
}

// TimeKey sorts by time: milliseconds since 1970, nothing before.
func TimeKey(t time.Time) []byte { return BE64(uint64(max(0, t.UnixMilli()))) }

// IndexPrefix is what all index entries of a job or worker begin with. It ends with a zero
// byte: without it the entries of worker "a-1" would be found among those of "a".
func IndexPrefix(id string) []byte { return append([]byte(id), 0) }

// IndexKey is the index entry of an event of a job or worker.
func IndexKey(id string, seq uint64) []byte {
	return binary.BigEndian.AppendUint64(IndexPrefix(id), seq)
}

// IndexSeq is the key of the event that an index entry stands for.
func IndexSeq(key []byte) []byte { return key[max(0, len(key)-8):] }

// KeyName is what a key stands for, in a form that is the same for all keys of its
// bucket: a port, a number, an id. A key that has not the form of its bucket is
// written like any other.
func KeyName(b Bucket, key []byte) string {
	switch {
	case b == Leases && len(key) == 2:
		return strconv.Itoa(int(binary.BigEndian.Uint16(key)))
	case b == PIDs && len(key) == 6:
		pid, port, _ := SplitPIDKey(key)
		return fmt.Sprintf("%d/%d", pid, port)
	case b == Events && len(key) == 8:
		return strconv.FormatUint(binary.BigEndian.Uint64(key), 10)
	case b == Ended && len(key) > 10:
		at := time.UnixMilli(int64(binary.BigEndian.Uint64(key))).UTC()
		port := binary.BigEndian.Uint16(key[len(key)-2:])
		return fmt.Sprintf("%s/%s/%d", at.Format("2006-01-02T15:04:05.000Z"), KeyText(key[8:len(key)-2]), port)
	case (b == ByJob || b == ByWorker) && len(key) > 9:
		return fmt.Sprintf("%s/%d", KeyText(key[:len(key)-9]), binary.BigEndian.Uint64(key[len(key)-8:]))
	}
	return KeyText(key)
}

// KeyText makes a key readable in an error message.
func KeyText(key []byte) string {
	if !utf8.Valid(key) {
		return hex.EncodeToString(key)
	}
	for _, r := range string(key) {
		if !unicode.IsPrint(r) {
			return hex.EncodeToString(key)
		}
	}
	return string(key)
}
