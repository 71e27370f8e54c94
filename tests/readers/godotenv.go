// Copyright (c) 2026, multicart.keys contributors
// GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

// Prints what godotenv reads in each file of a folder, as JSON: godotenv FOLDER COUNT
package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"

	"github.com/joho/godotenv"
)

func main() {
	count, _ := strconv.Atoi(os.Args[2])
	found := make([]map[string]string, count)
	for number := range found {
		read, err := godotenv.Read(filepath.Join(os.Args[1], strconv.Itoa(number)))
		if err != nil {
			read = map[string]string{}
		}
		found[number] = read
	}
	json.NewEncoder(os.Stdout).Encode(found)
}
