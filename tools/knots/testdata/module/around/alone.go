package around

const alone = 4

func first(f func() int) int { return f() }
