package proc

// Features is what this kernel offers to the package, for a report to a person.
type Features struct {
	PidfdInode bool // pidfds have an inode that is unique for a boot (kernel >= 6.9)
	ExitInfo   bool // the exit code of a process that is not our child can be read (kernel >= 6.15)
	CgroupV2   bool // hive may make cgroups of its own
	// NotTraced is why no program is started under trace, but all behind the gate process;
	// empty: those are that can be.
	NotTraced string
}
