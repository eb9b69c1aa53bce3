// Package endpoint says where a worker is reached, and which sockets of its port take
// the connections that go there. It reads nothing but what it is given, besides the names
// of processes for messages (Describe).
package endpoint
