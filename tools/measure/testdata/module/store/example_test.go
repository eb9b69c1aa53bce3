package store_test

func Example() {}

func ExampleWorker() {}

func helper() {}
