package promoted

type middle struct{ inner }

func (middle) use() int { return size() }
