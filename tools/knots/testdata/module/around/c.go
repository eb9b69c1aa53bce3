package around

func c() int { return alone + first(a) }
