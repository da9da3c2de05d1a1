package objects

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"path/filepath"
	"strings"

	"sigs.k8s.io/yaml"
	goyaml "sigs.k8s.io/yaml/goyaml.v2"

	"github.com/towpath/towpath/lib/exit"
)

// found is an object of an input: parsed, or known from the last time by the digest of its text.
type found struct {
	entry  *entry // from the last time
	digest uint64
	place  Place
	object *Object // nil for what was skipped
}

// entry is what is remembered of an object, so that its text need not be parsed again: a Kind of 0 was skipped.
type entry struct {
	id     ID
	digest uint64
	file   *file
	seen   uint64 // the reading that it was found by
}

// known are entries by the digest of their text.
type known map[uint64]*entry

var seed = maphash.MakeSeed()

func (p *piece) digest() uint64 {
	form := uint64(p.column)<<2 | 1
	if p.json {
		form = 2
	} else if p.item {
		form = uint64(p.column)<<2 | 3
	}
	return maphash.Bytes(seed, p.text) + form*0x9e3779b97f4a7c15 + uint64(len(p.list))
}

// reader is one pass over an input.
type reader struct {
	Options
	file   string
	known  known
	intern map[string]string
	out    []found
	begins []int // the lines that a list's items begin in, while it is read
	// flush, if given, takes what was read so far, now and then between two documents.
	flush func([]found) error
}

// flushAt is how many objects are kept until they are flushed.
const flushAt = 500

func parse(file string, data []byte, o Options, k known) ([]found, error) {
	r := &reader{Options: o, file: file, known: k, intern: map[string]string{}}
	return r.parse(data)
}

func (r *reader) parse(data []byte) ([]found, error) {
	count := lines{text: data, line: 1}
	for i, doc := range documents(data) {
		doc = trimLines(doc)
		if err := r.document(doc, Place{r.file, i + 1, -1, count.of(doc)}); err != nil {
			return nil, err
		}
		if r.flush != nil && len(r.out) >= flushAt {
			if err := r.flush(r.out); err != nil {
				return nil, err
			}
			r.out = r.out[:0]
		}
	}
	return r.out, nil
}

func (r *reader) document(doc []byte, at Place) error {
	if isJSON(doc) {
		mark := len(r.out)
		err := r.json(doc, at)
		if err == nil || filepath.Ext(r.file) == ".json" || json.Valid(doc) {
			return err
		}
		text, yerr := yaml.YAMLToJSONStrict(doc) // flow style, then
		switch {
		case yerr == nil:
			r.out = r.out[:mark]
			return r.value(piece{place: at, text: text, json: true})
		case isYAMLFile(r.file) && !isJSONStream(doc):
			return bad(at, fmt.Errorf("read YAML: %w", yamlError(yerr, at)))
		}
		return err
	}
	items, column, rest, ok := splitItems(doc)
	if !ok {
		return r.value(piece{place: at, text: doc})
	}
	var head struct {
		APIVersion string `yaml:"apiVersion"`
		Kind       string `yaml:"kind"`
	}
	mark := len(r.out)
	r.begins = r.begins[:0]
	defer func() { r.begins = r.begins[:0] }()
	err := goyaml.Unmarshal(rest, &head)
	if err == nil && strings.HasSuffix(head.Kind, "List") {
		count := lines{text: doc, line: at.Line}
		for i, text := range items {
			r.begins = append(r.begins, count.of(text))
			p := piece{place: at, text: text, item: true, column: column, list: head.Kind}
			p.place.Item, p.place.Line = i, r.begins[i]
			if err = r.value(p); err != nil {
				break
			}
		}
		if err == nil {
			return nil
		}
	}
	// Cut wrongly, perhaps: the whole decides.
	r.out = r.out[:mark]
	return r.whole(doc, at)
}

// json reads a document of JSON: one object, or several one after another.
func (r *reader) json(doc []byte, at Place) error {
	if err := r.value(piece{place: at, text: doc, json: true}); !errors.Is(err, errMore) {
		return err
	}
	s := &scanner{data: doc, first: at.Line}
	count := lines{text: doc, line: at.Line}
	for s.peek() != 0 {
		text, err := s.value()
		if err != nil {
			return bad(at, fmt.Errorf("read JSON: %w", err))
		}
		at.Line = count.of(text)
		if err := r.value(piece{place: at, text: text, json: true}); err != nil {
			return err
		}
	}
	return nil
}

// isJSONStream says whether a document begins with a whole object of JSON.
func isJSONStream(doc []byte) bool {
	var first json.RawMessage
	return json.NewDecoder(bytes.NewReader(doc)).Decode(&first) == nil
}

// isJSON says whether a document is meant as JSON.
func isJSON(doc []byte) bool {
	doc = bytes.TrimLeft(doc, " \t\r\n")
	return len(doc) > 0 && doc[0] == '{'
}

// whole reads a YAML document of any form by way of JSON.
func (r *reader) whole(doc []byte, at Place) error {
	text, err := yaml.YAMLToJSONStrict(doc)
	if err != nil {
		return bad(at, fmt.Errorf("read YAML: %w", yamlError(err, at)))
	}
	return r.value(piece{place: at, text: text, json: true})
}

// value takes one piece: an object, or a list of them in JSON.
func (r *reader) value(p piece) error {
	digest := p.digest()
	if e, ok := r.known[digest]; ok {
		r.out = append(r.out, found{entry: e, digest: digest, place: p.place})
		return nil
	}
	before := len(r.out)
	o, err := r.decode(p)
	if err != nil {
		return err
	}
	if o == nil && len(r.out) > before { // a list: its items are there
		return nil
	}
	if o != nil {
		o.Place = p.place
	}
	r.out = append(r.out, found{digest: digest, place: p.place, object: o})
	return nil
}

func (r *reader) decode(p piece) (*Object, error) {
	if p.json {
		return r.decodeJSON(p)
	}
	if p.sniff() == NetworkPolicy.String() {
		text, err := yaml.YAMLToJSONStrict(p.text)
		if err != nil {
			return nil, bad(p.place, fmt.Errorf("read YAML: %w", yamlError(err, p.place)))
		}
		p.json = true
		if p.text = text; p.item {
			p.text = bytes.TrimSuffix(bytes.TrimPrefix(text, []byte("[")), []byte("]"))
		}
		return r.decodeJSON(p)
	}
	var t thing
	var err error
	if p.item {
		one := []thing{}
		if err = goyaml.Unmarshal(p.text, &one); err == nil && len(one) != 1 {
			err = errors.New("not one item")
		}
		if len(one) == 1 {
			t = one[0]
		}
	} else {
		err = goyaml.Unmarshal(p.text, &t)
	}
	var mistyped *goyaml.TypeError
	switch {
	case err != nil && !errors.As(err, &mistyped):
		return nil, bad(p.place, fmt.Errorf("read YAML: %w", yamlError(err, p.place)))
	case t.Items != nil || strings.HasSuffix(t.Kind, "List") || t.Kind == "" && err != nil:
		return nil, r.whole(p.text, p.place)
	}
	switch kind, kerr := p.kind(t.APIVersion, t.Kind); {
	case kerr != nil:
		return nil, bad(p.place, kerr)
	case kind == 0:
		r.skip(p, t.APIVersion, t.Kind)
		return nil, nil
	case kind == NetworkPolicy: // written so that the first look missed it
		return nil, r.whole(p.text, p.place)
	case err != nil:
		return nil, bad(p.place, fmt.Errorf("%s: read YAML: %w", t.name(kind), yamlError(err, p.place)))
	default:
		return r.make(kind, &t, p.place)
	}
}

func (r *reader) decodeJSON(p piece) (*Object, error) {
	var apiVersion, kind string
	var items []byte
	s := &scanner{data: p.text, first: p.place.Line}
	if c := s.peek(); c != '{' {
		return nil, bad(p.place, exit.WithHint(errors.New("not an object"), oneObject))
	}
	err := s.object(func(key string, value []byte) error {
		switch key {
		case "apiVersion":
			return json.Unmarshal(value, &apiVersion)
		case "kind":
			return json.Unmarshal(value, &kind)
		case "items":
			items = value
		}
		return nil
	})
	if err != nil {
		return nil, bad(p.place, fmt.Errorf("read JSON: %w", err))
	}
	if s.peek() != 0 {
		return nil, bad(p.place, errMore)
	}
	if strings.HasSuffix(kind, "List") {
		return nil, r.items(p, kind, items)
	}
	k, err := p.kind(apiVersion, kind)
	switch {
	case err != nil:
		return nil, bad(p.place, err)
	case k == 0:
		if !json.Valid(p.text) {
			return nil, bad(p.place, fmt.Errorf("read JSON: a %s that is malformed", kind))
		}
		r.skip(p, apiVersion, kind)
		return nil, nil
	case k == NetworkPolicy:
		np, err := decodePolicy(p.text)
		if err != nil {
			return nil, bad(p.place, err)
		}
		return &Object{Policy: np}, nil
	}
	var t thing
	if err := json.Unmarshal(p.text, &t); err != nil {
		return nil, bad(p.place, fmt.Errorf("%s: %w", t.name(k), jsonError(err)))
	}
	return r.make(k, &t, p.place)
}

func (r *reader) items(p piece, kind string, items []byte) error {
	if p.place.Item >= 0 {
		return bad(p.place, errors.New("a list in a list"))
	}
	if len(items) == 0 || string(items) == "null" {
		return nil
	}
	count := lines{text: p.text, line: p.place.Line}
	s := &scanner{data: items, first: count.of(items)}
	n := 0
	err := s.array(func(value []byte) error {
		item := piece{place: p.place, text: value, json: true, list: kind}
		item.place.Item, item.place.Line = n, count.of(value)
		if n < len(r.begins) {
			item.place.Line = r.begins[n]
		}
		n++
		return r.value(item)
	})
	if err != nil && exit.Of(err) == exit.Bug { // the scanner's own
		err = bad(p.place, fmt.Errorf("read JSON: %w", err))
	}
	return err
}

func (r *reader) skip(p piece, apiVersion, kind string) {
	if err := foreign(apiVersion, kind); err != nil {
		r.warn(p.place, err)
	}
	if r.Skipped != nil {
		r.Skipped(p.place, apiVersion, kind)
	}
}

var errMore = errors.New("read JSON: something stands behind the object")

const oneObject = "every document is one object with apiVersion and kind, or a list of them"

// kind says what an object is; 0 is skipped.
func (p *piece) kind(apiVersion, kind string) (Kind, error) {
	if kind == "" && apiVersion == "" {
		switch p.list {
		case "PodList":
			return Pod, nil
		case "NamespaceList":
			return Namespace, nil
		case "NetworkPolicyList":
			return NetworkPolicy, nil
		}
	}
	core := apiVersion == "v1" || apiVersion == ""
	switch {
	case kind == "":
		return 0, exit.WithHint(errors.New(`key "kind": missing`), oneObject)
	case core && kind == Pod.String():
		return Pod, nil
	case core && kind == Namespace.String():
		return Namespace, nil
	case !strings.EqualFold(kind, NetworkPolicy.String()):
		return 0, nil
	case kind == NetworkPolicy.String() && apiVersion == "networking.k8s.io/v1":
		return NetworkPolicy, nil
	}
	if group, _, _ := strings.Cut(apiVersion, "/"); group == "networking.k8s.io" || group == "extensions" || core {
		return 0, exit.WithHint(fmt.Errorf("key \"kind\": %s of %q is not known", kind, apiVersion),
			"write apiVersion: networking.k8s.io/v1 and kind: NetworkPolicy")
	}
	return 0, nil // another project's
}

// bad is an error of an object, exit status 65; hints stay.
func bad(at Place, err error) error {
	return &exit.Error{Code: exit.BadInput, Err: fmt.Errorf("read %s: %w", at, err)}
}
