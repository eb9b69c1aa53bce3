package main

import (
	"io"

	"rbeehive/alloc"
	"rbeehive/hive"
	"rbeehive/hive/catalog"
	"rbeehive/store"
)

// Names for the external tests.
var (
	Run            = run
	PrepareDataDir = prepareDataDir
	WorkerProgram  = workerProgram
	TokenOf        = tokenOf
	ListenSocket   = listenSocket
)

// Banner is what a banner is made of.
type Banner struct {
	HiveID, URL, File, DataDir string
	Listen, TokenFile, Local   string
	SayToken                   bool
	Recovery                   hive.Recovery
	Ports                      alloc.Survey
	Workers                    []store.Worker
	Types                      []*catalog.Type
	Alone                      bool
}

// Write prints the banner.
func (b Banner) Write(w io.Writer) error {
	return (&banner{
		callers: callers{listen: b.Listen, tokenFile: b.TokenFile, local: b.Local, sayToken: b.SayToken},
		hiveID:  b.HiveID, url: b.URL, file: b.File, dataDir: b.DataDir,
		recovery: b.Recovery, ports: b.Ports, workers: b.Workers, types: b.Types, alone: b.Alone,
	}).writeTo(w)
}
