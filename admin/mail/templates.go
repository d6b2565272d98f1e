package mail

import (
	"embed"
	"errors"
	"fmt"
	htmltemplate "html/template"
	"io/fs"
	"os"
	"strings"
	"text/template"
	"unicode"
)

//go:embed templates
var embedded embed.FS

// The files of a set of templates.
const (
	fileWords = "words.tmpl" // the subject and the sentence of each kind
	fileText  = "mail.txt"   // what stands around the sentence
	fileHTML  = "mail.html"

	wordsItem = "item" // in the words: what is said of an item
)

// Templates make messages of letters. Made by [LoadTemplates]; for any number of
// goroutines.
type Templates struct {
	words, text *template.Template
	html        *htmltemplate.Template
}

// LoadTemplates reads the templates: those of dir, and for each file that it lacks
// the embedded one; only these if dir is empty. Every kind of letter is tried, so that
// a template that cannot be used is an error now and not when a mail is due.
func LoadTemplates(dir string) (*Templates, error) {
	var t Templates
	words, err1 := readTemplate(dir, fileWords)
	text, err2 := readTemplate(dir, fileText)
	html, err3 := readTemplate(dir, fileHTML)
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, err
	}
	var errs [3]error
	join := map[string]any{"join": func(words []string) string { return strings.Join(words, ", ") }}
	t.words, errs[0] = template.New(fileWords).Option("missingkey=error").Funcs(join).Parse(words)
	t.text, errs[1] = template.New(fileText).Option("missingkey=error").Funcs(join).Parse(text)
	t.html, errs[2] = htmltemplate.New(fileHTML).Option("missingkey=error").Funcs(join).Parse(html)
	if err := errors.Join(errs[:]...); err != nil {
		return nil, fmt.Errorf("read the templates of mails: %w", err)
	}
	for _, kind := range Kinds {
		trial := Letter{
			Kind: kind, To: "mia@example.com", Owner: "Owner", Member: "Mia", By: "Ann", Link: "https://example.com/invitations/x",
			More: 1,
		}
		for _, change := range []Change{"", ChangeNew, ChangeEnded, ChangeRoles, ChangeMore, ChangeLess, ChangeOther} {
			trial.Items = append(trial.Items, Item{Name: "Shop", Roles: []string{"Viewer"}, Was: []string{"Admin"}, Change: change})
		}
		m, err := t.Write(trial)
		if err != nil {
			return nil, err
		}
		if !strings.Contains("\n"+m.Text+"\n", "\n"+trial.Link+"\n") {
			return nil, fmt.Errorf("%s does not show the link alone on a line", fileText)
		}
	}
	return &t, nil
}

func readTemplate(dir, name string) (string, error) {
	if dir != "" {
		data, err := os.ReadFile(dir + string(os.PathSeparator) + name)
		if err == nil || !errors.Is(err, fs.ErrNotExist) {
			return string(data), err
		}
		if _, err := os.Stat(dir); err != nil {
			return "", fmt.Errorf("read the templates of mails: %w", err)
		}
	}
	data, err := embedded.ReadFile("templates/" + name)
	return string(data), err
}

// page is what the files around the words see.
type page struct {
	Letter

	Subject, Body, Ends string
	Items               []pageItem
}

// pageItem is an item with what is said of it.
type pageItem struct {
	Item

	Says string
}

// Write makes the message of a letter.
func (t *Templates) Write(l Letter) (Message, error) {
	l = l.plain()
	var subject, body, text, html strings.Builder
	err := errors.Join(t.words.ExecuteTemplate(&subject, l.Kind+".subject", l), t.words.ExecuteTemplate(&body, l.Kind+".body", l))
	if err != nil {
		return Message{}, fmt.Errorf("write a mail of the kind %q: %w", l.Kind, err)
	}
	p := page{Letter: l, Subject: oneLine(subject.String()), Body: strings.TrimSpace(body.String()), Ends: l.Ends.UTC().Format("2 January 2006, 15:04 MST")}
	for _, item := range l.Items {
		var says strings.Builder
		if err := t.words.ExecuteTemplate(&says, wordsItem, item); err != nil {
			return Message{}, fmt.Errorf("write what a mail says of an item: %w", err)
		}
		p.Items = append(p.Items, pageItem{item, oneLine(says.String())})
	}
	if err := errors.Join(t.text.Execute(&text, p), t.html.Execute(&html, p)); err != nil {
		return Message{}, fmt.Errorf("write a mail of the kind %q: %w", l.Kind, err)
	}
	return Message{To: l.To, ToName: l.ToName, Subject: p.Subject, Text: strings.TrimSpace(text.String()) + "\n", HTML: html.String()}, nil
}

// plain takes from all that accounts wrote what could begin a new line or turn one
// round: a mail that shows a link alone on a line shows no other.
func (l Letter) plain() Letter {
	l.To, l.ToName = oneLine(l.To), oneLine(l.ToName)
	l.Owner, l.Member, l.By = oneLine(l.Owner), oneLine(l.Member), oneLine(l.By)
	items := make([]Item, len(l.Items))
	for i, item := range l.Items {
		items[i] = Item{Name: oneLine(item.Name), Roles: plainAll(item.Roles), Was: plainAll(item.Was), Change: item.Change}
	}
	l.Items = items
	return l
}

func plainAll(names []string) []string {
	plain := make([]string, len(names))
	for i, name := range names {
		plain[i] = oneLine(name)
	}
	return plain
}

// oneLine is s as it may stand in a line, or in a header.
func oneLine(s string) string {
	return strings.TrimSpace(strings.Map(func(c rune) rune {
		switch {
		case c == '\u2028', c == '\u2029', unicode.IsControl(c):
			return ' '
		case unicode.Is(unicode.Bidi_Control, c), c == unicode.ReplacementChar:
			return -1
		}
		return c
	}, s))
}
