package sockets

// The kernel's numbers for the states of a TCP socket: include/net/tcp_states.h.
const (
	tcpEstablished   = 1
	tcpFinWait1      = 4
	tcpFinWait2      = 5
	tcpTimeWait      = 6
	tcpClose         = 7
	tcpCloseWait     = 8
	tcpListen        = 10
	tcpBoundInactive = 13 // a pseudo state of sock_diag only, kernel >= 6.8

	stateListen   = 1 << tcpListen
	statesHolding = stateListen | 1<<tcpBoundInactive
	statesAll     = 1<<(tcpBoundInactive+1) - 1
)
