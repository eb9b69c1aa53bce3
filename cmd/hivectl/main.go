// Command hivectl talks to a hive over its API.
package main

import (
	"os"

	"rbeehive/cmd/hivectl/command"
)

func main() {
	os.Exit(command.Run(command.System()))
}
