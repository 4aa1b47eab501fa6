import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "lib"))

import json
import re

import projects
import toolkit

TOOLS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CATEGORIES = {
    "files": ("edit_file", "ed_editor", "list_files", "read_file", "write_file"),
    "code": ("analyze_rust_code", "find_function", "find_struct", "search_code"),
    "rust": ("cargo_build", "cargo_check", "cargo_test", "clippy", "rustfmt"),
    "itself": ("explain_architecture", "get_current_capabilities", "project_map"),
}


def stated(name, key):
    found = re.search(rf'^{key}\s*=\s*"([^"]*)"', projects.text_of(os.path.join(TOOLS, name, "tool.toml")), re.MULTILINE)
    return found[1] if found else None


def tool(name):
    with open(os.path.join(TOOLS, name, "parameters.json"), encoding="utf-8") as file:
        schema = json.load(file)
    return {
        "name": name,
        "description": stated(name, "description"),
        "parameters": sorted(schema.get("properties", {})),
        "required": sorted(schema.get("required", [])),
    }


def get_current_capabilities(arguments):
    """What this very image has, read where it lies."""
    arguments.finish()
    names = sorted(name for name in os.listdir(TOOLS) if os.path.isfile(os.path.join(TOOLS, name, "tool.toml")))
    capabilities = {
        category: [tool(name) for name in names if name in members] for category, members in CATEGORIES.items()
    }
    known = {name for members in CATEGORIES.values() for name in members}
    capabilities["other"] = [tool(name) for name in names if name not in known]
    return {
        "capabilities": {category: tools for category, tools in capabilities.items() if tools},
        "tool_count": len(names),
        "workspace": toolkit.WORKSPACE,
    }


if __name__ == "__main__":
    toolkit.main(get_current_capabilities)
