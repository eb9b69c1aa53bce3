package chain

func one() int { return two() + a() }
