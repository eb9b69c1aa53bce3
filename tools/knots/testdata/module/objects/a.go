package objects

const limit = 3

func a() int { return b() }
