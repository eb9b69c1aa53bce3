package chain

func a() int { return b() }
