package dev

import (
	"strings"
)

// variable is one line of dev.env.
type variable struct{ name, value string }

// envFile is what a shell sources: NAME=value lines, quoted where the shell needs
// it, so that simple readers of such files understand most lines too. `set -a; .
// dev.env` hands the variables on to commands; a plain source keeps them in the
// shell.
func envFile(variables []variable) []byte {
	var b strings.Builder
	for _, v := range variables {
		b.WriteString(v.name + "=" + shellQuote(v.value) + "\n")
	}
	return []byte(b.String())
}

// shellQuote is s as one word of a POSIX shell's assignment.
func shellQuote(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("@%+=:,./-_?", r)
	}
	if s != "" && strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
