package hive

func forTests(e entry) { e.State = "of a test" }
