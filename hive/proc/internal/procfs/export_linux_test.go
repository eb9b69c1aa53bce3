package procfs

// The pure parts of what is read once.
var (
	MapsAll  = mapsAll
	Unescape = unescape
)
