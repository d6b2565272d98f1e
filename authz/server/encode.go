package server

import (
	"strconv"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/usher-authz/usher/authz"
	"github.com/usher-authz/usher/policies"
)

// AppendDecision appends d as api.md (Check API) has it: the same object, field by
// field, that data.usher.authz.decision is.
func AppendDecision(dst []byte, d *authz.Decision) []byte {
	dst = append(dst, `{"decision":`...)
	dst = strconv.AppendBool(dst, d.Allow)
	dst = append(dst, `,"context":{"reason":`...)
	dst = appendText(dst, string(d.Reason))
	if d.Level != "" {
		dst = append(dst, `,"level":`...)
		dst = appendText(dst, string(d.Level))
		dst = append(dst, `,"roles":`...)
		dst = appendTexts(dst, d.Roles)
	}
	if d.Reason == policies.ReasonGuardrail {
		dst = append(dst, `,"guardrail":`...)
		dst = appendTexts(dst, d.Guardrail)
	}
	if d.Reason == policies.ReasonGranted {
		dst = append(dst, `,"policies":`...)
		dst = appendTexts(dst, d.Policies)
	}
	if d.Owner != "" {
		dst = append(dst, `,"owner":`...)
		dst = appendText(dst, string(d.Owner))
	}
	dst = append(dst, `,"revision":`...)
	dst = strconv.AppendUint(dst, uint64(d.Revision), 10)
	if d.ValidUntil != "" {
		dst = append(dst, `,"valid_until":`...)
		dst = appendText(dst, d.ValidUntil)
	}
	if d.Levels != nil {
		dst = append(dst, `,"levels":`...)
		dst = appendLevels(dst, d.Levels)
		if d.Reason == policies.ReasonActionNotGranted || d.Reason == policies.ReasonNotShared {
			dst = append(dst, `,"missing_roles":`...)
			dst = appendTexts(dst, d.MissingRoles)
		}
	}
	return append(dst, "}}"...)
}

// appendLevels appends what stands on every level.
func appendLevels(dst []byte, l *authz.Levels) []byte {
	dst = append(dst, `{"direct":`...)
	dst = appendTexts(dst, l.Direct)
	dst = append(dst, `,"shared_env_groups":[`...)
	for i := range l.SharedEnvGroups {
		if i > 0 {
			dst = append(dst, ',')
		}
		group := &l.SharedEnvGroups[i]
		dst = append(dst, `{"group":`...)
		dst = appendText(dst, string(group.Group))
		dst = append(dst, `,"roles":`...)
		dst = appendTexts(dst, group.Roles)
		if group.InheritedFrom != "" {
			dst = append(dst, `,"inherited_from":`...)
			dst = appendText(dst, group.InheritedFrom)
		}
		dst = append(dst, '}')
	}
	dst = append(dst, `],"base":`...)
	dst = appendTexts(dst, l.Base)
	return append(dst, '}')
}

func appendTexts[T ~string](dst []byte, texts []T) []byte {
	dst = append(dst, '[')
	for i, text := range texts {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendText(dst, string(text))
	}
	return append(dst, ']')
}

// appendText appends text as a JSON string. Ids and nearly all names need no
// escapes. Bytes that are not UTF-8, which the domain lets nothing have, become
// U+FFFD.
func appendText(dst []byte, text string) []byte {
	for i := range len(text) {
		if c := text[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			dst, _ = jsontext.AppendQuote(dst, text) // the error says only that it replaced what is not UTF-8
			return dst
		}
	}
	dst = append(dst, '"')
	dst = append(dst, text...)
	return append(dst, '"')
}
