package around

func b() int { return c() }
