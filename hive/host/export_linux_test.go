package host

// The pure parts.
var (
	CapEff       = capEff
	HidingOf     = hidingOf
	UnitOf       = unitOf
	ShowUnit     = showUnit
	CgroupIn     = cgroupIn
	BelowRoot    = belowRoot
	TaskLimitsUp = taskLimitsUp
)
