package sockets

var (
	ReleaseAtLeast = releaseAtLeast
	ParseDiag      = parseDiag
)

// Messages reads a datagram as an answer to a request of this number.
func Messages(seq uint32, datagram []byte, each func([]byte) error) (done bool, err error) {
	return (&diagConn{seq: seq}).messages(datagram, each)
}
