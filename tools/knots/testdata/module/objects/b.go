package objects

func b() int { return limit }
