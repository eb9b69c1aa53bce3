package broken

var answer int = missing
