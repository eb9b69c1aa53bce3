package fields

func total() int { return newThing().size }
