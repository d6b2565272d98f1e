package routes

import (
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
)

// template is text with parts that a request fills in.
type template []part

// part is literal text, or where the text comes from.
type part struct {
	kind partKind
	text string // the text itself, or a name
}

type partKind int

const (
	literal partKind = iota
	ofPath
	ofHeader
	ofClaim
)

var names = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// parseTemplate reads text; the names of the path's parts must be among params.
func parseTemplate(text string, params []string) (template, error) {
	var made template
	for rest := text; rest != ""; {
		at := strings.IndexAny(rest, "{}")
		if at < 0 {
			return append(made, part{literal, rest}), nil
		}
		if rest[at] == '}' {
			return nil, fmt.Errorf("%q has a } without a {", text)
		}
		if at > 0 {
			made = append(made, part{literal, rest[:at]})
		}
		name, after, ok := strings.Cut(rest[at+1:], "}")
		if !ok {
			return nil, fmt.Errorf("%q has a { without a }", text)
		}
		p, err := parsePart(name, params)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", text, err)
		}
		made, rest = append(made, p), after
	}
	if made == nil {
		return nil, errors.New("it is empty")
	}
	return made, nil
}

func parsePart(name string, params []string) (part, error) {
	if header, ok := strings.CutPrefix(name, "header:"); ok {
		if header == "" || strings.ContainsAny(header, " :{") {
			return part{}, fmt.Errorf("{%s} names no header", name)
		}
		return part{ofHeader, http.CanonicalHeaderKey(header)}, nil
	}
	if claim, ok := strings.CutPrefix(name, "claim:"); ok {
		if claim == "" {
			return part{}, fmt.Errorf("{%s} names no claim", name)
		}
		return part{ofClaim, claim}, nil
	}
	if slices.Contains(params, name) {
		return part{ofPath, name}, nil
	}
	return part{}, fmt.Errorf("{%s} is no part of the path, nor {header:NAME} or {claim:NAME}", name)
}

// fill gives the text that r makes of t; params are the parts of its path. The error
// names what is absent.
func (t template) fill(r *Request, params map[string]string) (string, error) {
	var text strings.Builder
	for _, p := range t {
		value, err := p.value(r, params)
		if err != nil {
			return "", err
		}
		text.WriteString(value)
	}
	return text.String(), nil
}

func (p part) value(r *Request, params map[string]string) (string, error) {
	switch p.kind {
	case ofPath:
		return params[p.text], nil
	case ofHeader:
		values := r.Header[p.text]
		if len(values) != 1 || values[0] == "" {
			return "", fmt.Errorf("the header %s must be there, once", p.text)
		}
		return values[0], nil
	case ofClaim:
		value, ok := r.Claims[p.text].(string)
		if !ok || value == "" {
			return "", fmt.Errorf("the claim %s must be there, as text", p.text)
		}
		return value, nil
	default:
		return p.text, nil
	}
}
