package proc

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"math"
	"strconv"
	"strings"

	"rbeehive/store"
)

// stampPrefix begins the name of each stamp.
const stampPrefix = "RBEEHIVE_"

// The stamps: the variables that hive adds to a worker's environment.
const (
	StampState  = "RBEEHIVE_STATE"
	StampLease  = "RBEEHIVE_LEASE"
	StampWorker = "RBEEHIVE_WORKER"
	// StampProof proves the others, or StampCommand: see Prove.
	StampProof = "RBEEHIVE_PROOF"
	// StampName is the worker's name, for a state file that has to be made again; a worker
	// without one has none. StampNameProof proves it: see ProveName.
	StampName      = "RBEEHIVE_NAME"
	StampNameProof = "RBEEHIVE_NAME_PROOF"
)

// NoUser is a uid that the kernel gives to no process.
const NoUser = math.MaxUint32

// Prove returns the value of StampProof in the environment of a worker that is started
// as user uid: an HMAC-SHA256 of the stamps and the uid with the secret of the state, in
// hexadecimal. A process's environment can be read by its own user and root only, so
// whoever has the value got it from hive or from a process of that user. Empty without
// a secret.
func Prove(secret store.Secret, stateID, leaseID, workerID string, uid uint32) string {
	return sign(secret, "worker", stateID, leaseID, workerID, uid)
}

// ProveName is Prove for the name: a worker that was taken over has the proof of its own
// stamps, and must not be another one by name. It is a proof of its own, so that a hive that
// knows no names accepts the others.
func ProveName(secret store.Secret, leaseID, workerID, name string, uid uint32) string {
	return sign(secret, "name", leaseID, workerID, name, uid)
}

// proveCommand is Prove for the mark of a command.
func proveCommand(secret store.Secret, mark string, uid uint32) string {
	return sign(secret, "command", mark, "", "", uid)
}

// sign takes what can be in an environment, so no part has a zero byte in it.
func sign(secret store.Secret, what, a, b, c string, uid uint32) string {
	if len(secret) == 0 {
		return ""
	}
	mac := hmac.New(sha256.New, secret)
	_, _ = mac.Write([]byte(strings.Join([]string{what, a, b, c, strconv.FormatUint(uint64(uid), 10)}, "\x00"))) // a hash takes all
	return hex.EncodeToString(mac.Sum(nil))
}

// proven compares in constant time. An empty expectation is met by nothing.
func proven(have, want string) bool {
	return want != "" && hmac.Equal([]byte(have), []byte(want))
}
