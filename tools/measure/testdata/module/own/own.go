package own because it is a module of its own
