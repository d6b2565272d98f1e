package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestScripts runs testdata/script/*.txtar: the commands as a shell sees them.
// Those in testdata/script/dev run against the shared `usher dev`, whose variables
// are set.
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:           filepath.Join("testdata", "script"),
		UpdateScripts: os.Getenv("USHER_UPDATE") != "",
	})
}

func TestScriptsOnDev(t *testing.T) {
	t.Parallel()
	home := shared.home(t)
	env := devEnv(t, filepath.Join(home, ".usher"))
	testscript.Run(t, testscript.Params{
		Dir:           filepath.Join("testdata", "script", "dev"),
		UpdateScripts: os.Getenv("USHER_UPDATE") != "",
		Setup: func(e *testscript.Env) error {
			for name, value := range env {
				e.Setenv(name, value)
			}
			return nil
		},
	})
}
