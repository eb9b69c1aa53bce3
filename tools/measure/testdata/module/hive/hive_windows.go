package hive

func (h *Hive) elsewhere() {}
