package admin_test

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/stretchr/testify/require"
)

// document is /openapi.json, against which the harness holds every answer.
type document struct {
	Paths map[string]map[string]struct {
		Responses map[string]struct {
			Content map[string]struct {
				Schema schema `json:"schema"`
			} `json:"content"`
			Headers map[string]any `json:"headers"`
		} `json:"responses"`
	} `json:"paths"`
	Components struct {
		Schemas map[string]schema `json:"schemas"`
	} `json:"components"`
}

type schema struct {
	Ref                  string            `json:"$ref"`
	Type                 any               `json:"type"` // a string or a list of them
	Properties           map[string]schema `json:"properties"`
	Required             []string          `json:"required"`
	AdditionalProperties any               `json:"additionalProperties"` //nolint:tagliatelle // JSON Schema's own name
	Items                *schema           `json:"items"`
	Enum                 []any             `json:"enum"`
	AnyOf                []schema          `json:"anyOf"` //nolint:tagliatelle // as above
}

// conforms checks that the document knows the answer: its status, its headers and
// the shape of its body.
func (p *platform) conforms(a answer) {
	p.t.Helper()
	p.documentOnce.Do(func() {
		data, err := p.try("GET", "/openapi.json", nil)
		require.NoError(p.t, err)
		require.NoError(p.t, json.Unmarshal(data.body, &p.document))
	})
	method, path, _ := strings.Cut(a.what, " ")
	path, _, _ = strings.Cut(path, "?")
	operation, ok := p.document.Paths[p.document.template(path)][strings.ToLower(method)]
	if !ok {
		return // the check API, feed and bundles have no place in it
	}
	response, ok := operation.Responses[strconv.Itoa(a.status)]
	require.True(p.t, ok, "%s: the document has no %d: %s", a.what, a.status, a.body)
	for name := range response.Headers {
		if name == "ETag" && a.header.Get("ETag") == "" {
			continue // a view that is no object
		}
		require.NotEmpty(p.t, a.header.Get(name), "%s: %d without %s", a.what, a.status, name)
	}
	media, _, _ := strings.Cut(a.header.Get("Content-Type"), ";")
	content, ok := response.Content[media]
	require.True(p.t, ok || len(a.body) == 0, "%s: the document has no %s for %d", a.what, media, a.status)
	if len(a.body) == 0 {
		return
	}
	var value any
	require.NoError(p.t, json.Unmarshal(a.body, &value))
	require.NoError(p.t, p.document.check(content.Schema, value, ""), "%s: %s", a.what, a.body)
}

// template is the path of the document that path is one of.
func (d *document) template(path string) string {
	parts := strings.Split(path, "/")
	best := ""
	for template := range d.Paths {
		of := strings.Split(template, "/")
		if len(of) != len(parts) {
			continue
		}
		matches := true
		for i := range of {
			matches = matches && (of[i] == parts[i] || strings.HasPrefix(of[i], "{"))
		}
		if matches && (best == "" || strings.Count(template, "{") < strings.Count(best, "{")) {
			best = template
		}
	}
	return best
}

func (d *document) check(s schema, value any, at string) error {
	if s.Ref != "" {
		name := strings.TrimPrefix(s.Ref, "#/components/schemas/")
		of, ok := d.Components.Schemas[name]
		if !ok {
			return fmt.Errorf("%s: the schema %s is missing", at, name)
		}
		return d.check(of, value, at)
	}
	if len(s.AnyOf) > 0 {
		var all []error
		for _, either := range s.AnyOf {
			err := d.check(either, value, at)
			if err == nil {
				return nil
			}
			all = append(all, err)
		}
		return errors.Join(all...)
	}
	if s.Type == nil {
		return nil
	}
	types, ok := s.Type.([]any)
	if !ok {
		types = []any{s.Type}
	}
	is := typeOf(value)
	if is == "number" && slices.Contains(types, any("integer")) {
		is = "integer"
	}
	if !slices.Contains(types, any(is)) {
		return fmt.Errorf("%s is %T, the document has %v", at, value, types)
	}
	if len(s.Enum) > 0 && !slices.Contains(s.Enum, value) {
		return fmt.Errorf("%s is %v, none of %v", at, value, s.Enum)
	}
	switch v := value.(type) {
	case []any:
		for i, item := range v {
			if err := d.check(*s.Items, item, at+"["+strconv.Itoa(i)+"]"); err != nil {
				return err
			}
		}
	case map[string]any:
		for _, name := range s.Required {
			if _, ok := v[name]; !ok {
				return fmt.Errorf("%s.%s is required", at, name)
			}
		}
		for name, item := range v {
			of, ok := s.Properties[name]
			if each, free := s.AdditionalProperties.(map[string]any); !ok && free { // of any names, each with a value of this type
				of, ok = schema{Type: each["type"]}, true
			}
			if !ok {
				return fmt.Errorf("%s.%s is not in the document", at, name)
			}
			if err := d.check(of, item, at+"."+name); err != nil {
				return err
			}
		}
	}
	return nil
}

func typeOf(value any) string {
	switch value.(type) {
	case nil:
		return "null"
	case bool:
		return "boolean"
	case string:
		return "string"
	case float64:
		return "number"
	case []any:
		return "array"
	default:
		return "object"
	}
}
