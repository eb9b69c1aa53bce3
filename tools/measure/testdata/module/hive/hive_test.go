package hive

type Fake struct{ jobsKeep int }

func (h *Hive) ofTests() {}
