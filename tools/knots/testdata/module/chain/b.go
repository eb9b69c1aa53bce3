package chain

func b() int { return c }
