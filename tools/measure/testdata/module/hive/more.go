package hive

// settings of which one is jobs_keep: a comment is no mention
var settings = []string{"jobs_keep", "jobs_keep_longer", "x.jobs_keep: 1"}

var text = `
// not a comment
`

func (h *Hive) jobsKeep() {
	JobsKeep := h.Keep
	_ = JobsKeep
}
