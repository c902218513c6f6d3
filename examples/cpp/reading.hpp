// Reads what score.cpp needs, without other libraries: JSON that differnet wrote, and a picture.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <map>
#include <sstream>
#include <stdexcept>
#include <string>

inline void require(bool holds, const std::string& otherwise) {
    if (!holds) throw std::runtime_error(otherwise);
}

inline std::string readFile(const std::filesystem::path& path) {
    std::ifstream file(path, std::ios::binary);
    std::string bytes(std::istreambuf_iterator<char>(file), {});
    require(!bytes.empty(), path.string() + " can't be read, or is empty");
    return bytes;
}

using Values = std::map<std::string, std::string>;  // "metadata.input.height": "256"

// Puts every value of a JSON text into one map; strings keep their escapes.
struct JsonReader {
    const std::string& text;
    Values& values;
    std::size_t at = 0;

    char next() {
        at = std::min(text.find_first_not_of(" \t\r\n", at), text.size());
        return text.at(at);
    }

    std::string string() {
        const std::size_t start = ++at;
        while (text.at(at) != '"') at += text[at] == '\\' ? 2 : 1;
        return text.substr(start, at++ - start);
    }

    void value(const std::string& path) {
        const char first = next();
        if (first == '{' || first == '[') {
            ++at;
            for (int index = 0; next() != '}' && text[at] != ']'; ++index) {
                const std::string key = first == '{' ? string() : std::to_string(index);
                if (first == '{' && next() == ':') ++at;
                value(path.empty() ? key : path + "." + key);
                if (next() == ',') ++at;
            }
            ++at;
        } else if (first == '"') {
            values[path] = string();
        } else {
            const std::size_t start = at;
            at = std::min(text.find_first_of(",]} \t\r\n", at), text.size());
            values[path] = text.substr(start, at - start);
        }
    }
};

inline Values readJson(const std::string& path) try {
    const std::string text = readFile(path);
    Values values;
    JsonReader{text, values}.value("");
    return values;
} catch (const std::out_of_range&) {
    throw std::runtime_error(path + " is not complete JSON");
}

// Returns a value's text; nothing where it is null or absent.
inline std::string text(const Values& values, const std::string& path) {
    const auto found = values.find(path);
    return found == values.end() || found->second == "null" ? "" : found->second;
}

// Returns a number; NaN where it is null or absent.
inline double number(const Values& values, const std::string& path) {
    const std::string found = text(values, path);
    return found.empty() ? std::nan("") : std::strtod(found.c_str(), nullptr);
}

// Reads a binary PPM as the graph takes pictures: rows of BGR, or of BGRx for four channels.
inline std::string readPicture(const std::string& path, long height, long width, long channels) {
    std::istringstream file(readFile(path));
    std::string magic;
    long size[3] = {};  // width, height, the value of white
    file >> magic;
    for (long& field : size) {
        while ((file >> std::ws).peek() == '#')  // a comment
            file.ignore(std::numeric_limits<std::streamsize>::max(), '\n');
        file >> field;
    }
    file.get();
    require(file && magic == "P6" && size[2] == 255, path + " is not a binary PPM (P6) of 8 bits");
    require(size[0] == width && size[1] == height,
            path + " has " + std::to_string(size[0]) + " x " + std::to_string(size[1]) +
                " pixels, but the model takes " + std::to_string(width) + " x " +
                std::to_string(height) + " (width x height): cut out and resize it beforehand");
    const std::string rgb(std::istreambuf_iterator<char>(file), {});
    const auto pixels = static_cast<std::size_t>(height * width);
    require(rgb.size() == pixels * 3, path + " is cut off, or holds more than one picture");
    std::string picture(pixels * channels, '\xff');
    for (std::size_t i = 0; i < rgb.size(); ++i) picture[i / 3 * channels + 2 - i % 3] = rgb[i];
    return picture;
}
