package methods

func second() int { return all[0].third() }
