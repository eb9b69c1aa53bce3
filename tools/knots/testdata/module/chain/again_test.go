package chain

func two() int { return one() }
