package proc

// The pure parts of environment_linux.go and systemd_linux.go.
var (
	CapEff       = capEff
	HidingOf     = hidingOf
	UnitOf       = unitOf
	ShowUnit     = showUnit
	CgroupIn     = cgroupIn
	TaskLimitsUp = taskLimitsUp
)
