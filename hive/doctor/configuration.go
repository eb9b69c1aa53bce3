package doctor

// checkConfiguration looks for a configuration that could not be reloaded. What a start finds
// wrong with the file it says itself, and does not serve.
func checkConfiguration(f *Facts) Checkup {
	const name = "configuration"
	if f.Reload == "" {
		return ok(name, "as the last start or reload has read it")
	}
	return warning(name, "the last reload failed: "+f.Reload,
		"hive goes on with the configuration that it had, and its next start fails with this one",
		"correct the file (`hive check` lists every mistake with its line), then `hivectl reload`")
}
