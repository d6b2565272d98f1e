package main

import (
	"fmt"
	"os"

	"github.com/posener/complete"
	"github.com/willabides/kongplete"

	"github.com/usher-authz/usher/policies"
)

type completionCommand struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"The shell: ${enum}."`
}

// Help is shown by --help below the options.
func (*completionCommand) Help() string {
	return "For one session, in bash and zsh: source <(usher completion bash). For all, add that line to ~/.bashrc or, with zsh, to ~/.zshrc after compinit; " +
		"with fish: usher completion fish > ~/.config/fish/completions/usher.fish.\n\nIt completes commands, options, their values, and the catalogue's actions."
}

// completionScripts let each shell ask usher itself, which finds the line in COMP_LINE;
// where usher knows nothing, the names of files are offered.
var completionScripts = map[string]string{
	"bash": "complete -o bashdefault -o default -C 'usher' usher\n",
	"zsh":  "autoload -U +X bashcompinit && bashcompinit\ncomplete -o bashdefault -o default -C 'usher' usher\n",
	"fish": `function __usher_complete
    set -lx COMP_LINE (commandline -cp)
    test -z (commandline -ct)
    and set COMP_LINE "$COMP_LINE "
    set -l found (usher)
    if test (count $found) -gt 0
        printf '%s\n' $found
    else
        __fish_complete_path (commandline -ct)
    end;
end
complete -f -c usher -a "(__usher_complete)"
`,
}

// Run prints the script.
func (c *completionCommand) Run(p *Process) error {
	_, err := fmt.Fprint(p.Stdout, completionScripts[c.Shell])
	return err
}

// completed tells whether a shell asked for completions, and prints them: then there is
// nothing else to do.
func completed(p Process) bool {
	if line, ok := os.LookupEnv("COMP_LINE"); !ok || line == "" {
		return false
	}
	parser, err := newParser(&commandLine{}, p, func(int) {})
	if err == nil {
		kongplete.Complete(parser,
			kongplete.WithPredictor("action", complete.PredictFunc(actionNames)),
			kongplete.WithErrorHandler(func(error) {}), // a shell that completes has no place for it
			kongplete.WithExitFunc(func(int) {}))
	}
	return true
}

// actionNames are the actions of the catalogue that this usher has.
func actionNames(complete.Args) []string {
	catalogue, err := policies.EmbeddedCatalogue()
	if err != nil {
		return nil
	}
	var names []string
	for _, name := range catalogue.Index().Actions() {
		names = append(names, string(name))
	}
	return names
}
