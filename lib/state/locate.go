package state

import (
	"encoding/json"
	"reflect"
	"strings"
)

// locate finds the key whose value does not fit v, since encoding/json does not say where an
// UnmarshalText method refused. It decodes field by field, so it runs only after a failure.
func locate(data []byte, v any) string {
	return locateIn(data, reflect.TypeOf(v), "")
}

func locateIn(data json.RawMessage, t reflect.Type, path string) string {
	for t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t == nil || t.Kind() != reflect.Struct || json.Unmarshal(data, reflect.New(t).Interface()) == nil {
		return path
	}
	var object map[string]json.RawMessage
	if json.Unmarshal(data, &object) != nil {
		return path
	}
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "" {
			name = f.Name
		}
		for key, raw := range object {
			if !f.IsExported() || !strings.EqualFold(key, name) || json.Unmarshal(raw, reflect.New(f.Type).Interface()) == nil {
				continue
			}
			below := key
			if path != "" {
				below = path + "." + key
			}
			return locateIn(raw, f.Type, below)
		}
	}
	return path
}
