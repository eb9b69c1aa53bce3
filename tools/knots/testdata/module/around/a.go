package around

func a() int { return b() }
