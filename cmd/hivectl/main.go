// Command hivectl talks to a hive over its API.
package main

import (
	"os"

	"rbeehive/cmd/hivectl/command"
	"rbeehive/cmd/hivectl/command/cli"
)

// version is set by the Makefile (-ldflags -X main.version=).
var version string

func main() {
	os.Exit(command.Run(cli.System(version)))
}
