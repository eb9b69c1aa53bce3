package fields

type thing struct{ size int }

func sum(t []thing) int { return total() + len(t) }
