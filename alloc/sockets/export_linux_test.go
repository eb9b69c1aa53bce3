package sockets

var (
	ReleaseAtLeast = releaseAtLeast
	ParseDiag      = parseDiag
)
